"""Write `openapi.json`, the description of the explorer's API from which the page's types are made."""

import json
from pathlib import Path

from cytosae.explorer.app import description

text = json.dumps(description(), indent=1, ensure_ascii=False)
Path(__file__).with_name("openapi.json").write_text(text + "\n", encoding="utf-8")
