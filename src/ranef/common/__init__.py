"""What every layer may use: arguments, progress, random streams, types, figures."""
