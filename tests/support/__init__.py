"""What tests of several folders share: no fixtures, which are in the conftest.py of a folder."""
