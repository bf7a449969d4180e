printf 'old\n' > text.txt
printf '*.bin filter=lfs diff=lfs merge=lfs -text\n' > .gitattributes
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n' > big.bin
printf '[submodule "lib"]\n\tpath = lib\n\turl = ../lib.git\n\tupdate = !touch owned\n' > .gitmodules
mkdir lib
git update-index --add --cacheinfo 160000,0123456789012345678901234567890123456789,lib
