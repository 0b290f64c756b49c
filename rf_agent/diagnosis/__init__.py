"""Why a policy scores zero: evidence from its data, its environment and its checkpoint, and the likeliest causes."""
