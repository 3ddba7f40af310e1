"""Published decoders for others: model cards."""
