"""Runs transformer models faster than their own libraries do, on torch, ONNX Runtime or OpenVINO.

Begin with `runner`. `backend` chooses the engine, `tokens` and `batches` tokenise once and batch by token count,
`bert_graph` and its `onnx_` and `openvino_` twins write a BERT without torch, `int8` and `int8_attention` quantise,
`workers` spreads work over processes, `model_cache` keeps converted models.
"""
