"""What several tests share: small backends, a stand-in for the Hub, commands, processes, hostile clients."""
