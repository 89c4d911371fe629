"""What of this machine is fit to run the task, and the command that mends what is not."""
