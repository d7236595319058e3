"""Replicas that are killed again and again under clients that come and go: is anything lost?"""
