# Run in the working folder after the commit: work that is not committed.
echo "draft" > notes.txt
echo "# mine" >> settings.ini
