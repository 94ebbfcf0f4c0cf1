# shellcheck shell=bash
# shellcheck disable=SC2154
# Phases of a check, whose results are counted. Sourced, after lib.sh, by scripts that set $logs and have a function
# clean_up.

passed=0
failed=0
minutes=
under_way=

# Sums up what a test program printed: cargo's result lines, pg_regress's lines of before and since 16 (node's look
# like the latter), pytest's lines.
count() { # count LOG WORD PATTERN: the sum of cargo's numbers before WORD, and the lines that match
	awk -v word="$2" -v pattern="$3" '
		/^test result:/ { for (i = 2; i <= NF; i++) if ($i ~ "^" word) sum += $(i - 1) }
		$0 ~ pattern { sum++ }
		END { print sum + 0 }' "$1"
}

# run NAME COMMAND …: a phase. One that prints no results of its own counts as one test; preparations count only
# when they fail.
run() {
	local name=$1 log=$logs/$1.log started status=0 good bad printer
	shift
	say "" "=== $name"
	started=$(now)
	exec 7> >(tee "$log")
	printer=$!
	"$@" >&7 2>&1 7>&- || status=$?
	exec 7>&-
	# A process that a test left behind may hold the pipe open; that must not hang the run.
	timeout 5 tail --pid="$printer" -f /dev/null || say "warning: a process of $name still runs"
	good=$(count "$log" passed '^ok [0-9]|^(test| +).* \.\.\. ok +[0-9]+ ms|^test_.*\.py::.* PASSED')
	bad=$(count "$log" failed '^not ok [0-9]|^(test| +).* \.\.\. FAILED +[0-9]+ ms|^test_.*\.py::.* (FAILED|ERROR)')
	if [ $status != 0 ] && [ "$bad" = 0 ]; then bad=1; fi
	case $name in
	setup | build) good=0 ;;
	*) [ $((good + bad)) -gt 0 ] || good=1 ;;
	esac
	passed=$((passed + good))
	failed=$((failed + bad))
	minutes+=$(awk -v t="$(seconds_since "$started")" -v name="$name" -v good="$good" -v bad="$bad" \
		'BEGIN { printf "%-10s %6.1f minutes %6d passed %6d failed", name, t / 60, good, bad }')$'\n'
	return $status
}

# limited TIME COMMAND …: ends the command, with all that it has started, when it has not ended within that time. It fails
# then, so that its phase does. Waited for in the background, so that this script can be interrupted meanwhile.
limited() {
	local status=0
	set -m # otherwise it would ignore interrupts, and so would servers that it starts
	timeout --kill-after=60s "$@" &
	under_way=$!
	set +m
	wait "$under_way" || status=$?
	under_way=
	if [ $status = 124 ] || [ $status = 137 ]; then say "error: ended, because it took longer than $1"; fi
	return $status
}

# For who leaves while such a command runs.
end_limited() {
	[ -z "$under_way" ] || kill "$under_way" 2>/dev/null || true
}

finish() {
	clean_up || true
	say "" "=== summary" "$minutes"
	say "$passed passed, $failed failed"
	[ $failed = 0 ]
	exit
}
