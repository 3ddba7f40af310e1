"""Published decoders for others: their pages, the Hugging Face Hub, ONNX."""
