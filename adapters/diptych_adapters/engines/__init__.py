"""Runs transformer models faster than their own libraries do, on torch, ONNX Runtime or OpenVINO.

Begin with `runner`. `backend` chooses the engine, `batches` tokenises once and batches by token count,
`int8` quantises, `workers` spreads work over processes, `processor` measures the machine and keeps converted models.
"""
