"""RobustKit: how robust is this model, really?"""
