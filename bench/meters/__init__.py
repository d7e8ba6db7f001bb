"""One file per kind of quantity. Every meter returns `Findings`; nothing else knows how it was had."""
