"""What writes text. A backend gets token ids and returns ids, their log-probabilities and the reason why it stopped.
One file per backend.

protocol        Request, Written, Generator: all that the rest of the package knows of a backend
hugging_face    the model in this process: continuous batching over a key-value cache that is never copied
kv_cache        that cache: keys and values of many rows on shelves of equal capacity
whole_batch     the plain loop, for architectures whose cache cannot be cut by rows
"""
