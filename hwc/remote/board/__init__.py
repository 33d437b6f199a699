"""What runs on the board over ssh. Sent as source with each call, so nothing is installed there."""
