"""The link to the host: UART and SPI byte streams, frames, and what the commands do."""
