# Shell functions that run programs against known answers and count; to be sourced.
work=${PROGRAMS_WORK:-/tmp/programs}
limit=${PROGRAMS_LIMIT:-600}
passed=0 failed=0
mkdir -p $work
cd $work || exit 1

pass() {
    passed=$((passed + 1))
    echo "PASS $1"
}
fail() { # NAME FILE: the file says what happened
    failed=$((failed + 1))
    echo "FAIL $1"
    tail -n 30 "$2" | sed 's/^/    /'
}
succeeds() { # NAME COMMAND...: passes when the command's status is 0
    name=$1
    shift
    if timeout "$limit" "$@" >$work/out 2>&1 </dev/null; then pass "$name"; else
        echo "status $?" >>$work/out
        fail "$name" $work/out
    fi
}
prints() { # NAME EXPECTED_FILE COMMAND...: passes when the command's output is exactly that
    name=$1 expected=$2
    shift 2
    timeout "$limit" "$@" >$work/out 2>$work/err </dev/null
    status=$?
    if [ $status = 0 ] && cmp -s $work/out "$expected"; then pass "$name"; else
        { echo "status $status"; tail -n 10 $work/err; diff "$expected" $work/out; } >$work/why
        fail "$name" $work/why
    fi
}
says() { # NAME EXPECTED_TEXT COMMAND...
    name=$1
    printf '%s\n' "$2" >$work/expected
    shift 2
    prints "$name" $work/expected "$@"
}

run_groups() { # GROUP...: runs the functions group_GROUP; status 0 when nothing failed
    for group; do
        echo "GROUP $group"
        "group_$(echo "$group" | tr - _)"
    done
    echo "PROGRAMS: $passed passed, $failed failed"
    [ $failed = 0 ]
}
