"""A stand-in for a Kubernetes cluster: an API server that keeps to the documented behaviour of a real one, with a
scheduler, nodes that run pods as processes of this machine, and the controllers that tell when nodes are lost.
"""
