"""Agents with ReAct prompting: environments behind one interface, and the loop that plays them."""
