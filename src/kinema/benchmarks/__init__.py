"""What `kinema bench` compares: forms that compute the same in other ways, and the tables and pictures of what was measured."""
