# SPDX-License-Identifier: GPL-2.0-or-later
# bash completion for lodge: `lodge complete` knows the verbs, their options and the daemon's objects.
_lodge()
{
    local line=${COMP_LINE:0:COMP_POINT} words
    read -ra words <<<"$line"
    case $line in *[[:space:]]) words+=("") ;; esac
    local current=${words[-1]}
    mapfile -t COMPREPLY < <("${words[0]}" complete "${words[@]:1}" 2>/dev/null)
    if [ "${COMPREPLY[*]}" = / ]; then
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
    fi
    # bash has cut the word at the last ':' or '=' and puts in what stands behind it.
    local cut=${current%"${current##*[:=]}"} i
    for i in "${!COMPREPLY[@]}"; do
        COMPREPLY[i]=${COMPREPLY[i]#"$cut"}
    done
}
complete -F _lodge lodge
