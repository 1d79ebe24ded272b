"""The backends, which write text: they get token ids and return ids, their log-probabilities and the reason why the
model stopped. Each has a file.

protocol        Request, Written, Generator: all that the rest of the package knows of a backend
hugging_face    the model in this process: continuous batching over a key-value cache that is never copied
kv_cache        that cache: keys and values of many rows on shelves of equal capacity (`kv_layers`, `kv_step`)
whole_batch     the plain loop, for architectures whose cache cannot be cut by rows
vllm            vLLM in this process
http            a server of vLLM or llama.cpp
choosing        a backend by name
sampling        the next token: the likeliest, or a draw
fidelity        does an engine compute the same model as the one that is read inside?
written         which engine wrote a pair's answers
"""
