ln -s /etc settings
