"""Single lines of CSV: split and join."""


class Broken(ValueError):
    """The line is not CSV."""


def needs_quotes(field, separator):
    """Whether a field can only be written in quotes."""
    return separator in field or '"' in field or field != field.strip()


def join(fields, separator=","):
    """Return the fields as one line."""
    parts = []
    for field in fields:
        text = str(field)
        if needs_quotes(text, separator):
            text = '"' + text + '"'
        parts.append(text)
    return separator.join(parts)


def split(line, separator=","):
    """Return the fields of one line; two quotes inside a quoted field are one."""
    fields, field = [], []
    quoted = False
    at = 0
    while at < len(line):
        letter = line[at]
        if quoted:
            if letter == '"' and line[at + 1 : at + 2] == '"':
                field.append('"')
                at += 1
            elif letter == '"':
                quoted = False
            else:
                field.append(letter)
        elif letter == '"' and not field:
            quoted = True
        elif letter == separator:
            fields.append("".join(field))
            field = []
        else:
            field.append(letter)
        at += 1
    if quoted:
        raise Broken("a quote is not closed")
    fields.append("".join(field))
    return fields
