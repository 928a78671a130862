"""What the bridges to LangChain, LlamaIndex and Haystack share: media and details of hits, alike in all of them.

Begin with `hit_details`.
"""
