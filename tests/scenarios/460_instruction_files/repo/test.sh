test "$(sh pkg/calc.sh 2 3)" = 5
