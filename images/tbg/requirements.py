"""Prints what pyproject.toml asks for, with the extras named as arguments.

pip cannot install a project's dependencies without the project itself; in a layer of
their own they are installed once, and not at every change of the code.
"""

import sys
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
print("\n".join(project["dependencies"]))
for extra in sys.argv[1:]:
    print("\n".join(project["optional-dependencies"][extra]))
