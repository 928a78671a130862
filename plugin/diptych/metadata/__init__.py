"""What a collection says about itself: slots, pipeline and swap state, and how documents are laid out in payloads.

Begin with `models`, then `store`, which reads and writes them in the collection. `payloads`, `payload_paths` and
`node_payloads` turn documents into payloads and back, and their ids into point ids.
"""
