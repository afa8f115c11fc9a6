"""Corruptions of photographs in five severities: noise, blur, weather, digital, and those that need depth."""
