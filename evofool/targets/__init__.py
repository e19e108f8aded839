"""Networks under test. A kind of network is a file of zoo/, and a row of families.py."""
