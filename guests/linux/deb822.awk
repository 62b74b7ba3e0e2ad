# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
#
# sources.list(5), deb822 format: stanzas of "Field: value" lines.
# Prints "URI suites components|keys" for each binary source; see fetch.sh.

function finish(    uri) {
    split(field["uris"], uri, " ")
    if (tolower(field["enabled"]) != "no" && (" " field["types"] " ") ~ / deb /)
        print uri[1] " " field["suites"] " " field["components"] "|" field["signed-by"]
    split("", field)
}

/^#/ { next }
/^[ \t]*$/ { finish(); next }
/^[ \t]/ { field[name] = field[name] " " $0; next }
{
    name = tolower(substr($0, 1, index($0, ":") - 1))
    value = substr($0, index($0, ":") + 1)
    gsub(/^[ \t]+|[ \t]+$/, "", value)
    field[name] = value
}
END { finish() }
