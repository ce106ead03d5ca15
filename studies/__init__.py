"""The questions: YAML study files that ship with the tool."""
