"""What tests of several suites need: real servers on free ports, and the programs themselves."""
