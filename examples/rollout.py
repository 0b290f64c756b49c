"""Watch a policy follow instructions: `python examples/rollout.py --render`.

The options are those of `rf-agent rollout`.
"""

import sys

from rf_agent.cli import main

if __name__ == "__main__":
    main(["rollout", *sys.argv[1:]])
