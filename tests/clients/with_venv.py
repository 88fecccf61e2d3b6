"""Runs a program with the Python of build/clients-venv, or says why that is not there and ends with 77 (skipped).

usage: with_venv.py VENV PROGRAM [ARGUMENT...]
"""
import os
import pathlib
import sys

venv, program = pathlib.Path(sys.argv[1]), sys.argv[2]
python = venv / "bin/python"
if not (venv / "complete").exists():
    reason = venv.with_name(venv.name + ".reason")
    why = reason.read_text().strip() if reason.exists() else "./check makes it from PyPI"
    print(f"{pathlib.Path(program).name}: Skipped\nno official openai client in build/{venv.name}: {why}\n")
    raise SystemExit(77)
os.execv(python, [str(python), program, *sys.argv[3:]])
