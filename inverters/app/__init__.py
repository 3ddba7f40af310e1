"""The web page: a photograph reconstructed from every depth of a network. It needs gradio (`inverters[app]`)."""
