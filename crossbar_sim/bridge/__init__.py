"""PyTorch: a model whose linear layers run on a simulated chip, and is otherwise the model it was."""
