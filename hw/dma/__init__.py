"""DMA: transfers between external memory and the on-chip memories."""
