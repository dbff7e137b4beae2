"""How this program is tested against itself, other programs and claims. No part of what users import."""
