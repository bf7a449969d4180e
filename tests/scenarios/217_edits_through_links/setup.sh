ln -s /etc/hosts hosts
ln -s /etc out
ln -s ../../.. up
