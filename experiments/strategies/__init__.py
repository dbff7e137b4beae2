"""Strategies for better programs: a problem in, one program out, by samples, visible tests, repair or other prompts.

strategy.py (the contract) ← one file per strategy ← registry.py. `tasks/strategy_driver.py` serves their requests.
"""
