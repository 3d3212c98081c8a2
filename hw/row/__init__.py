"""ROW: softmax and LayerNorm."""
