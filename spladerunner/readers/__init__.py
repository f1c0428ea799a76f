"""Files of texts to records, by one set of rules: encode, eval and other programs read them here.

The inputs are JSON Lines, TSV ("id TAB text"), plain text and Parquet; all but Parquet may be compressed.

- An id is a non-empty string, or an integer, which becomes its decimal string. It may contain spaces.
- An id may occur only once in the inputs that are read together.
- A text is a string, and may be empty. A title is a string or null; title and text are joined with a space.
- A blank line of JSON Lines or TSV is skipped. Each line of plain text is a text, with its line number as the id.
- A line is UTF-8. A byte order mark at its start is ignored. A lone surrogate, which JSON can escape, is an error.

files has the inputs and their lines, records the rules for one line, duplicates the ids, lines all of them together.
"""

from spladerunner.readers.files import Input
from spladerunner.readers.lines import read_records
from spladerunner.readers.records import Fields, Record

__all__ = ["Fields", "Input", "Record", "read_records"]
