"""Write depth in the formats that other tools read; one module for each format."""
