v=$(cat value.txt)
echo "the value is $v"
test "$v" = 2
