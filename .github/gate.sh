#!/usr/bin/env bash
# The gate as a step of a workflow: one run of the judge, its findings in the step's summary, and
# in FOLDER what to keep: the report, JUnit's XML, a badge. Exits as `drifting-parity gate` does.
set -uo pipefail
folder=${FOLDER:-drifting-parity}
mkdir -p "$folder" || exit 2
arguments=(--expectations "${EXPECTATIONS:-parity.toml}")
[ -z "${IMPLEMENTATION:-}" ] || arguments+=(--implementation "$IMPLEMENTATION")
[ "${QUICK:-false}" != true ] || arguments+=(--quick)
"${PYTHON:-python3}" -m drifting_parity.cli gate "${arguments[@]}" --format markdown \
	--output "$folder/summary.md" --report "$folder/report.json" \
	--junit "$folder/junit.xml" --badge "$folder/badge.json"
status=$?
if [ -f "$folder/summary.md" ]; then
	cat "$folder/summary.md" >>"${GITHUB_STEP_SUMMARY:-/dev/null}"
else
	echo "drifting-parity: nothing was judged, exit status $status" >>"${GITHUB_STEP_SUMMARY:-/dev/null}"
fi
exit "$status"
