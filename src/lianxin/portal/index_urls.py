"""Addresses of the pages of the index: the review desk, a person's identity, merging by hand. Included by ``portal.urls``."""

from django.urls import path

from lianxin.portal import index_batch, index_desk, index_identity, index_merge, index_quality

urlpatterns = [
    path("index/reviews", index_desk.listing, name="index_reviews"),
    path("index/reviews/next", index_desk.following, name="index_next"),
    path("index/reviews/<int:pk>", index_desk.show, name="index_review"),
    path("index/reviews/<int:pk>/answer", index_desk.answer, name="index_answer"),
    path("index/reviews/<int:pk>/undo", index_desk.undo, name="index_undo"),
    path("index/reviews/<int:pk>/reopen", index_desk.reopen, name="index_reopen"),
    path("index/people", index_merge.find, name="index_people"),
    path("index/people/<str:number>", index_identity.show, name="index_person"),
    path("index/people/<str:number>/move", index_identity.move, name="index_move"),
    path("index/people/<str:number>/undo/<int:pk>", index_identity.undo, name="index_event_undo"),
    path("index/compare/<str:one>/<str:other>", index_merge.side_by_side, name="index_compare"),
    path("index/batch", index_batch.listing, name="index_batch"),
    path("index/batch/<int:pk>", index_batch.proposal, name="index_proposal"),
    path("index/batch/<int:pk>/decide", index_batch.decide, name="index_proposal_decide"),
    path("index/models/<str:version>/activate", index_batch.activate, name="index_model_activate"),
    path("index/quality", index_quality.quality, name="index_quality"),
    path("index/quality/generic/<int:pk>", index_quality.lift, name="index_generic"),
]
