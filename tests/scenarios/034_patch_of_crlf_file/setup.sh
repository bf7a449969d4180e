printf 'one\r\ntwo\r\nthree\r\n' > poem.txt
