# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
#
# sources.list(5), one-line format: "deb [options] URI suite components".
# Prints "URI suite components|keys" for each binary source; see fetch.sh.

$1 == "deb" {
    keys = ""
    if (match($0, /\[[^]]*\]/)) {
        count = split(substr($0, RSTART + 1, RLENGTH - 2), options, " ")
        $0 = substr($0, 1, RSTART - 1) substr($0, RSTART + RLENGTH)
        for (i = 1; i <= count; i++)
            if (sub(/^signed-by=/, "", options[i]))
                keys = options[i]
    }
    gsub(/,/, " ", keys)
    line = $2
    for (i = 3; i <= NF && $i !~ /^#/; i++)
        line = line " " $i
    print line "|" keys
}
