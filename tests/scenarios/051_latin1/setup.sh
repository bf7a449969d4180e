printf 'Stra\337e, 1999, caf\351\n' > address.txt
