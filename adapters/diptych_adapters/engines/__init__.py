"""Runs transformer models faster than their own libraries do, on torch, ONNX Runtime or OpenVINO.

Begin with `batches`: it tokenises once, batches by token count and runs a graph. `backend` chooses the engine,
`int8` quantises, `workers` spreads work over processes, `processor` measures the machine and keeps converted models.
"""
