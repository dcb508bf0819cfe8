#compdef lodge
# SPDX-License-Identifier: GPL-2.0-or-later
# zsh completion for lodge: `lodge complete` knows the verbs, their options and the daemon's objects.
local -a found
found=("${(@f)$(lodge complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
if [[ $found == / ]]; then
    _files
else
    compadd -a found
fi
