"""Mutation testing: would a test notice if a statement of a core were another?"""
