import os
key = os.environ['KEY']
